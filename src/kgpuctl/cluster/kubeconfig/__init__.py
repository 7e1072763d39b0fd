"""Which cluster, as whom and with which credentials; no request is made here."""
