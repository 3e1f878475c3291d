"""Help texts of options and arguments that several commands have."""

IN = "Files, directories (searched recursively) and patterns; - is stdin."
OUT = (
    "Output file; a folder if it is one, ends in /, or the inputs are several, a folder or a pattern; - is stdout. "
    "Default: beside the input."
)
DEVICE = "Device such as cpu or cuda:1. Default: the first GPU, or else the CPU."
LARGEST = "Refuse pictures of more pixels, width times height."
FORCE = "Overwrite whatever is there; otherwise results made from another input, and files of other programs, stay."
JOBS = (
    "Pictures at a time; the model is loaded once. Default: one for each core, fewer where memory is short, at most "
    "eight."
)
THREADS = "Processor threads for each picture. Default: all, shared among the pictures at work."
TIMES = "Give results the time of their inputs."
COMPILE = (
    "On a GPU, record the work for a size of pictures with the first of them, or never. Default: with the second, "
    "so that single pictures need not wait."
)
MAX_MEMORY = (
    "What the program may occupy, such as 2GB or 800MiB: large pictures run in tiles, in smaller ones where memory is "
    "short. Default: what is free."
)
