"""Turns rows of files and of other systems into rows of ours. Functions of values: nothing is
stored here.

    files           a file, whatever its format, as rows of ours
    packed          its bytes: archives, encodings
    detect          its format, from its beginning
    layouts         public layouts by name
    mapping         which column is which field of ours
    cells, times    the value of a cell
    foreign         rows of Gorse, Metarank and Amazon Personalize
    foreign_fields  the fields of such a row
    rows, notes     one row as its model accepts it, and warnings about it
"""
