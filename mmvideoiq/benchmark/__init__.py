"""What our parts cost beside the plain network and beside what a user would pick instead."""
