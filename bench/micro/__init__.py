"""One question a file: how fast is one part alone?"""
