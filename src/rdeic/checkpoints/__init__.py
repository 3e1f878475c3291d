"""Model folders: which are installed (`registry`), loading and saving them (`checkpoints`), other people's weights."""
