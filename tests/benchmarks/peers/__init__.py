"""The same trials by other tools, each as its own documentation has it run on one machine."""
