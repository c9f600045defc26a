"""One module for each function of main.py, of the same name: HTTP in, HTTP out."""
