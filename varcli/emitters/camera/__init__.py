"""The camera: ADU to photoelectrons; what is given, read from files, and measured."""
