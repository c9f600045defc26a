raise ImportError("what is deployed has no pygments")
