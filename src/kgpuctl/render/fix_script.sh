#!/bin/sh
# The functions of the scripts that fix_script.py writes; a script gets those that it uses.
# Blank lines part the blocks, so there is none inside a block. A word after `{ #` names the
# boot loader that a block is for.

# Where it is remembered what was changed; undo reads it.
state=/var/lib/kgpuctl/fix-script

# The first line of a file that is made here: undo removes no other.
mark='# Written by the fix script of kgpuctl, whose undo removes it.'

nl='
'

say() {
    printf '%s\n' "$*"
}

# Stop. Each file is either as it was or changed as a whole, so a later run can go on from here.
give_up() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Leave a part to a person: the rest goes on, and the end tells of it.
leave_it() {
    printf 'By hand: %s\n' "$*" >&2
    left=yes
}

# WHAT WAITING: say that there is nothing to do.
is_so() {
    say "$1: already so."
    if [ "$2" != none ] && [ "$reboot" = no ]; then reboot=maybe; fi
}

run_it() {
    say "Running: $*"
    changed=yes
    "$@" || give_up "This failed: $*. Mend the cause and run this script again."
}

# Whether WORD ($2) is one of the words of LIST ($1).
has() {
    case " $1 " in *" $2 "*) return 0 ;; esac
    return 1
}

same_text() {
    [ -f "$1" ] && [ -f "$2" ] && [ "$(cat "$1" && echo .)" = "$(cat "$2" && echo .)" ]
}

# Where there is a copy of what was written into FILE, to tell later whether it is still that.
copy_of() {
    printf '%s/%s' "$state" "$(printf '%s' "${1#/}" | tr / -)"
}

# Note that a change is WAITING for a command (boot, initramfs) or a reboot; "none" needs nothing.
# The note is a file, so that a run that failed in between is made good by the next.
wait_for() {
    case $1 in
    none) return 0 ;;
    boot | initramfs) : >"$state/waiting-$1" || give_up "Could not write to $state." ;;
    esac
    reboot=yes
}

# WAITING COMMAND...: run the command if a change is waiting for it.
finish() {
    waiting=$state/waiting-$1
    shift
    if [ ! -e "$waiting" ]; then return 0; fi
    run_it "$@"
    rm -f "$waiting"
    reboot=yes
}

# Put TEXT ($2) in FILE's place as a whole; mode and owner stay.
write_file() {
    new=$1.kgpuctl-new
    rm -f "$new"
    if { [ ! -e "$1" ] || cp -p "$1" "$new"; } && printf '%s' "$2" >"$new" && mv -f "$new" "$1"; then
        changed=yes
        return 0
    fi
    rm -f "$new"
    give_up "Could not write $1; it is as it was."
}

# Keep FILE beside itself before its first change; false if somebody changed it since then.
keep_backup() {
    backup=$1.kgpuctl-backup
    if [ -e "$backup" ]; then
        same_text "$1" "$backup"
        return
    fi
    if cp -p "$1" "$backup.new" && mv -f "$backup.new" "$backup"; then return 0; fi
    rm -f "$backup.new"
    give_up "Could not back up $1; it is as it was."
}

# FILE TEXT WAITING: change or make a file in such a way that take_back can find its own work.
change_file() {
    copy=$(copy_of "$1")
    if [ ! -e "$1" ] || same_text "$1" "$copy" || keep_backup "$1"; then
        printf '%s' "$2" >"$copy" || give_up "Could not write to $state; $1 is as it was."
    fi
    wait_for "$3"
    write_file "$1" "$2"
}

# FILE WAITING: put a file back as it was, or remove it if it was made here.
take_back() {
    copy=$(copy_of "$1") backup=$1.kgpuctl-backup
    if same_text "$1" "$backup" || { [ ! -e "$1" ] && [ ! -e "$backup" ]; }; then
        rm -f "$copy" "$backup"
    fi
    if [ ! -e "$copy" ] && [ ! -e "$backup" ]; then
        say "$1: nothing to take back."
    elif ! same_text "$1" "$copy"; then
        leave_it "$1 was changed since and is left as it is. Look for $backup, as it was before."
    elif [ -e "$backup" ]; then
        wait_for "$2"
        mv -f "$backup" "$1" || give_up "Could not put back $1."
        rm -f "$copy"
        changed=yes
        say "$1: put back as it was."
    elif [ "$(head -n 1 "$1")" = "$mark" ]; then
        wait_for "$2"
        rm -f "$1" "$copy" || give_up "Could not remove $1."
        changed=yes
        say "$1: removed."
    else
        leave_it "$1 has no backup any more and is left as it is."
    fi
}

# FILE WAITING LINE...: put the lines into the file, those that it lacks.
add_lines() {
    file=$1 waiting=$2
    shift 2
    if [ -L "$file" ]; then
        leave_it "$file is a symbolic link; put this where it belongs: $*"
        return 0
    fi
    text=$mark$nl
    if [ -e "$file" ]; then
        text=$(cat "$file" && echo .) || give_up "Could not read $file."
        text=${text%.}
    fi
    before=$text
    for line; do
        case $nl$text$nl in *"$nl$line$nl"*) continue ;; esac
        case $text in '' | *"$nl") ;; *) text=$text$nl ;; esac
        text=$text$line$nl
    done
    if [ "$text" = "$before" ]; then
        is_so "$file" "$waiting"
        return 0
    fi
    mkdir -p "${file%/*}" || give_up "Could not make ${file%/*}."
    change_file "$file" "$text" "$waiting"
    if [ "$waiting" = none ]; then say "$file: written."; else say "$file: written (needs a reboot)."; fi
}

# FILE MODULE...: load modules now, and through FILE at each boot.
load_modules() {
    file=$1
    shift
    for module; do
        if [ -d "/sys/module/$(printf '%s' "$module" | tr - _)" ]; then continue; fi
        run_it modprobe -a "$@"
        break
    done
    add_lines "$file" none "$@"
}

# Stop a unit for good, and remember how it was.
stop_unit() {
    enabled=$(systemctl is-enabled "$1" 2>/dev/null) || true
    active=$(systemctl is-active "$1" 2>/dev/null) || true
    case $enabled,$active in
    enabled*,* | *,active | *,activating | *,reloading) ;;
    *)
        is_so "$1" none
        return 0
        ;;
    esac
    if [ ! -e "$state/unit-$1" ]; then
        printf '%s,%s\n' "$enabled" "$active" >"$state/unit-$1" || give_up "Could not write to $state."
    fi
    run_it systemctl disable --now "$1"
}

# Let a unit start again, if it was stopped here.
restore_unit() {
    if [ ! -e "$state/unit-$1" ]; then
        say "$1: nothing to take back."
        return 0
    fi
    case $(cat "$state/unit-$1") in
    enabled*,inactive | enabled*,failed) run_it systemctl enable "$1" ;;
    enabled*) run_it systemctl enable --now "$1" ;;
    *) run_it systemctl start "$1" ;;
    esac
    rm -f "$state/unit-$1"
}

# EVERYWHERE ANYWHERE ADD REMOVE: compare the words that stand on all command lines, and on any,
# with those that are wanted. Sets `missing` and `extra`.
settle() {
    missing='' extra=''
    for word in $4; do
        if has "$2" "$word"; then extra="$extra $word"; fi
    done
    for word in $3; do
        if has "$one_word" "${word%%=*}"; then
            merge "$1" "$2" "$word"
        elif ! has "$1" "$word"; then
            missing="$missing $word"
        fi
    done
    missing=${missing# } extra=${extra# }
}

name_of() {
    printf '%s' "${1%%=*}" | tr - _
}

# EVERYWHERE ANYWHERE WORD: let the new word take the values of the old one along.
merge() {
    old='' new=$3
    for each in $2; do
        if [ "$(name_of "$each")" = "$(name_of "$3")" ]; then old=$each; fi
    done
    if [ -n "$old" ]; then
        new=$old
        for value in $(printf '%s' "${3#*=}" | tr , ' '); do
            case ",${new#*=}," in *",$value,"*) ;; *) new=$new,$value ;; esac
        done
    fi
    if has "$1" "$new"; then return 0; fi
    missing="$missing $new"
    if [ -n "$old" ] && [ "$old" != "$new" ]; then extra="$extra $old"; fi
}

# words|edit FILE VARIABLE ADD REMOVE: print the words in FILE, or FILE as it is to be. VARIABLE is
# the shell variable that holds them; if it is empty, they are FILE's only line. A line that is not
# a plain assignment is not touched: then this prints why, and is false.
edit_words() {
    end=$(tail -c 1 "$2")
    WANT=$1 VARIABLE=$3 ADD=$4 REMOVE=$5 END=$end awk '
function refuse(why) {
    print why
    exit 3
}
# Take the right side of an assignment apart into quote, value and tail, if it is plain.
function is_plain(text) {
    quote = substr(text, 1, 1)
    if (quote == "\"") found = match(text, /^"[^"\\`]*"/)
    else if (quote == apostrophe) found = match(text, "^" quote "[^" quote "]*" quote)
    else { quote = ""; found = match(text, /^[A-Za-z0-9_.,:=\/@%+-]*/) }
    if (!found) return 0
    value = substr(text, 1, RLENGTH)
    tail = substr(text, RLENGTH + 1)
    if (quote != "") value = substr(value, 2, length(value) - 2)
    if (quote == "\"" && value ~ /[$][(]/) return 0
    return tail ~ /^[ \t]*$/ || tail ~ /^[ \t]+#/
}
# Whether line i holds words: of the variable that is asked for (which = 1), or of its base (2).
function holds(i,   text) {
    text = line[i]
    head = quote = tail = ""
    which = 1
    if (name[1] == "") { value = text; return text ~ /[^ \t]/ }
    if (text ~ /^[ \t]*#/) return 0
    for (; which <= 2; which++) {
        head = name[which] "="
        if (index(text, head) != 1) continue
        if (line[i - 1] ~ /^[^#]*\\$/ || !is_plain(substr(text, length(head) + 1))) break
        return 1
    }
    sub(/[ \t]#.*/, "", text)
    if (text ~ "(^|[^A-Za-z0-9_])(" name[1] "|" name[2] ")[+]?=") {
        refuse("line " i " is not understood (it is indented, continued, or computes its value)")
    }
    return 0
}
# Take the words of REMOVE out of the value; all else keeps its spaces.
function less(text,   out, word, space, gap, held) {
    while (match(text, /[^ \t]+/)) {
        space = substr(text, 1, RSTART - 1)
        word = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        if (index(" " ENVIRON["REMOVE"] " ", " " word " ")) {
            if (!held) gap = space
            held = 1
            continue
        }
        out = out (held ? gap : space) word
        held = 0
    }
    return out text
}
function more(text) {
    return text (text ~ /[^ \t]$/ ? " " : "") ENVIRON["ADD"]
}
BEGIN {
    apostrophe = sprintf("%c", 39)
    name[1] = name[2] = ENVIRON["VARIABLE"]
    sub(/_DEFAULT$/, "", name[2])
}
{ line[NR] = $0 }
END {
    for (i = 1; i <= NR; i++) {
        if (!holds(i)) continue
        if (which == 1) { target = i; count++ }
        words[which] = (value ~ /[$]/ ? words[which] " " : "") value
    }
    if (name[1] == "" && count != 1) refuse("it has not just one line")
    if (name[1] == "" && words[1] ~ /^[ \t]*#/) refuse("its line is a comment")
    if (ENVIRON["WANT"] == "words") {
        words[2] = words[2] " " words[1]
        gsub(/[ \t]+/, " ", words[2])
        print words[2]
        exit
    }
    appends = !target && ENVIRON["ADD"] != ""
    for (i = 1; i <= NR; i++) {
        if (holds(i)) {
            value = less(value)
            if (i == target && ENVIRON["ADD"] != "") {
                value = more(value)
                if (name[1] != "" && quote == "") quote = "\""
            }
            line[i] = head quote value quote tail
        }
        printf "%s%s", line[i], (i < NR || ENVIRON["END"] == "" || appends) ? "\n" : ""
    }
    if (appends) print name[1] "=\"" ENVIRON["ADD"] "\""
}' <"$2"
}

# FILE VARIABLE ADD REMOVE: change the words of the kernel command line in a file.
kernel_file() {
    if [ -L "$1" ] || [ ! -f "$1" ]; then
        leave_it "$1 is not a plain file. Where the words belong, add: ${3:--}; take off: ${4:--}"
        return 0
    fi
    if ! current=$(edit_words words "$1" "$2" '' ''); then
        leave_it "$1: $current. Add: ${3:--}; take off: ${4:--}"
        return 0
    fi
    settle "$current" "$current" "$3" "$4"
    if [ -z "$missing$extra" ]; then
        is_so "$1" boot
        return 0
    fi
    text=$(edit_words edit "$1" "$2" "$missing" "$extra" && echo .) || give_up "Could not edit $1."
    change_file "$1" "${text%.}" boot
    say "$1: added ${missing:-nothing}, took off ${extra:-nothing} (needs a reboot)."
}

# VARIABLE ADD REMOVE COMMAND: /etc/default/grub.d is read after /etc/default/grub and may undo its words.
check_drop_ins() {
    set +f
    for file in /etc/default/grub.d/*.cfg; do
        set -f
        if [ ! -f "$file" ]; then continue; fi
        if ! current=$(edit_words words "$file" "$1" '' ''); then
            leave_it "$file: $current. See that it has: ${2:--}; and has not: ${3:--}"
            continue
        fi
        settle "$current" "$current" "$2" "$3"
        if [ -n "$extra" ]; then
            leave_it "$file still has $extra: take it off there, then run $4."
        fi
        if has "$current" "\$$1" || has "$current" "\${$1}"; then continue; fi
        if [ -n "$missing" ] && grep -q "^$1=" "$file"; then
            leave_it "$file sets $1 anew: add $missing there, then run $4."
        fi
    done
}

# ADD: append words for Flatcar's kernel command line.
oem_words() {
    file=$(oem_file) current=''
    if [ -e "$file" ]; then
        current=$(sed -n 's/^[[:space:]]*set linux_append=//p' "$file" | tr "\"'\n\t" '    ')
    fi
    settle "$current" "$current" "$1" ''
    if [ -z "$missing" ]; then
        is_so "$file" reboot
    else
        add_lines "$file" reboot "set linux_append=\"\$linux_append $missing\""
    fi
}

oem_file() {
    if [ -d /oem ]; then say /oem/grub.cfg; else say /usr/share/oem/grub.cfg; fi
}

# The words that stand on all lines of TEXT: a boot entry without a word still lacks it.
in_all_lines() {
    printf '%s\n' "$1" | awk '
    { for (i = 1; i <= NF; i++) if (seen[$i] == NR - 1) seen[$i] = NR }
    END { for (word in seen) if (seen[word] == NR) printf "%s ", word }'
}

in_any_line() {
    printf '%s' "$1" | tr '\n\t' '  '
}

# ADD REMOVE: change the kernel command line through the boot loader's own command.
kernel_command() {
    before=$(read_words) || before=''
    if [ -z "$before" ]; then give_up 'Could not read the kernel command line; it is as it was.'; fi
    settle "$(in_all_lines "$before")" "$(in_any_line "$before")" "$1" "$2"
    if [ -z "$missing$extra" ]; then
        is_so 'The kernel command line' boot
        return 0
    fi
    set_words "$missing" "$extra"
    reboot=yes
    say "The kernel command line: added ${missing:-nothing}, took off ${extra:-nothing} (needs a reboot)."
    after=$(read_words) || give_up 'Could not read the kernel command line after the change.'
    remember "$(in_any_line "$before")" "$(in_any_line "$after")"
}

# BEFORE AFTER: remember what was really added and taken off, so that undo leaves the rest alone.
remember() {
    added='' removed=''
    if [ -e "$state/kernel-added" ]; then added=$(cat "$state/kernel-added"); fi
    if [ -e "$state/kernel-removed" ]; then removed=$(cat "$state/kernel-removed"); fi
    for word in $2; do
        if has "$1" "$word"; then continue; fi
        if has "$removed" "$word"; then removed=$(drop_word "$removed" "$word"); else added="$added $word"; fi
    done
    for word in $1; do
        if has "$2" "$word"; then continue; fi
        if has "$added" "$word"; then added=$(drop_word "$added" "$word"); else removed="$removed $word"; fi
    done
    printf '%s' "${removed# }" >"$state/kernel-removed" && printf '%s' "${added# }" >"$state/kernel-added"
}

# LIST WORD: print the list less the word.
drop_word() {
    kept=''
    for each in $1; do
        if [ "$each" != "$2" ]; then kept="$kept $each"; fi
    done
    printf '%s' "${kept# }"
}

undo_command() {
    if [ ! -e "$state/kernel-added" ]; then
        say 'The kernel command line: nothing to take back.'
        return 0
    fi
    added=$(cat "$state/kernel-added") removed=$(cat "$state/kernel-removed")
    if [ -n "$added$removed" ]; then
        set_words "$removed" "$added"
        reboot=yes
    fi
    rm -f "$state/kernel-added" "$state/kernel-removed"
}

# Print each boot entry's words on a line.
read_words() { # grubby
    entries=$(grubby --info=ALL) || return 1
    printf '%s\n' "$entries" | sed -n 's/^args="\(.*\)"$/\1/p'
}

set_words() { # grubby
    add=$1 remove=$2
    set -- --update-kernel=ALL
    if [ -n "$add" ]; then set -- "$@" "--args=$add"; fi
    if [ -n "$remove" ]; then set -- "$@" "--remove-args=$remove"; fi
    run_it grubby "$@"
}

read_words() { # kernelstub
    entries=$(kernelstub --print-config 2>&1) || return 1
    printf '%s\n' "$entries" | sed -n 's/.*Kernel Boot Options:\.*//p'
}

set_words() { # kernelstub
    add=$1 remove=$2
    set --
    if [ -n "$add" ]; then set -- "$@" --add-options "$add"; fi
    if [ -n "$remove" ]; then set -- "$@" --delete-options "$remove"; fi
    run_it kernelstub "$@"
}

read_words() { # rpm-ostree
    rpm-ostree kargs
}

set_words() { # rpm-ostree
    add=$1 remove=$2
    set -- kargs
    for word in $remove; do set -- "$@" "--delete-if-present=$word"; done
    for word in $add; do set -- "$@" "--append-if-missing=$word"; done
    run_it rpm-ostree "$@"
}

needs_root() {
    if [ "$(id -u)" != 0 ]; then give_up 'Only root can do this. Nothing was changed.'; fi
    mkdir -p "$state" || give_up "Could not make $state. Nothing was changed."
}

# Say what came of it, and whether to reboot.
conclude() {
    rmdir "$state" "${state%/*}" 2>/dev/null || true
    if [ "$changed" = no ]; then say 'Nothing was changed.'; fi
    case $reboot in
    yes) say 'Reboot the host: some of this takes effect only then.' ;;
    maybe) say 'If the host was not rebooted since it was changed, reboot it.' ;;
    *) say 'No reboot is needed for this.' ;;
    esac
    if [ "$left" = yes ]; then give_up 'Not all of it could be done: see "By hand" above.'; fi
}
