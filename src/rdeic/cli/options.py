"""Help texts of options and arguments that several commands have."""

IN = "Files, directories (searched recursively) and patterns; - is stdin."
OUT = "Output file; a directory for several inputs; - is stdout. Default: beside the input."
DEVICE = "Device such as cpu or cuda:1. Default: the first GPU, or else the CPU."
LARGEST = "Refuse pictures of more pixels, width times height."
FORCE = "Overwrite existing outputs; otherwise a batch skips those newer than their input."
COMPILE = (
    "On a GPU, record the work for a size of pictures with the first of them, or never. Default: with the second, "
    "so that single pictures need not wait."
)
