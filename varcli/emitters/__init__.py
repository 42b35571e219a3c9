"""Emitters: camera stacks become tables of molecules, coarse to fine."""
