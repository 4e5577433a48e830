"""Training and inference compared with the float network and with other tools."""
