"""Turns rows of files and of other systems into rows of ours. Functions of values: nothing is
stored here.

    files     a file, whatever its format, as rows of ours
    opening   its bytes, whatever it is packed in; its format and encoding
    layouts   public layouts by name
    mapping   which column is which field of ours
    cells     the value of a cell, times among them
    foreign   rows of Gorse, Metarank and Amazon Personalize
    rows      one row as its model accepts it, and warnings about it
"""
