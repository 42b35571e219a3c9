"""What is written of a stack or a table: the files, the resumable run that writes them, what follows on a table."""
