# What the tests' commands are made of. Needs PYTHON, PYTHONPATH and OUTBOX; sourced in the VM.
set -eu
export NO_COLOR=1
devices=/sys/bus/pci/devices

# preflight NAME ARGUMENT...: keep the report as NAME.json and the exit code as NAME.exit
preflight() {
    name=$1
    shift
    code=0
    "$PYTHON" -m kgpuctl preflight --output json "$@" >"$OUTBOX/$name.json" || code=$?
    echo "$code" >"$OUTBOX/$name.exit"
    case $code in
    0 | 3 | 4) ;; # a report, whatever it says
    *) return "$code" ;;
    esac
}

# bind DRIVER ADDRESS...: by sysfs, as vfio-manager does it
bind() {
    driver=$1
    shift
    for address; do
        unbind "$address"
        echo "$driver" >"$devices/$address/driver_override"
        echo "$address" >/sys/bus/pci/drivers_probe
        [ -e "/sys/bus/pci/drivers/$driver/$address" ]
    done
}

unbind() {
    for address; do
        if [ -e "$devices/$address/driver" ]; then
            echo "$address" >"$devices/$address/driver/unbind"
        fi
    done
}

# group_of ADDRESS
group_of() {
    basename "$(readlink "$devices/$1/iommu_group")"
}

# say_viable NAME ADDRESS: ask the kernel itself (VFIO_GROUP_GET_STATUS, bit 0), keep 0 or 1
say_viable() {
    "$PYTHON" - "/dev/vfio/$(group_of "$2")" >"$OUTBOX/$1" <<'END'
import fcntl, os, struct, sys
answer = fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), 0x3B67, struct.pack("II", 8, 0))
print(struct.unpack("II", answer)[1] & 1)
END
}
