"""Rows of files and of other systems as rows of ours. Functions of values: nothing is stored here.

files      a file, whatever it is, as rows of ours        packed   its bytes: archives, encodings
detect     what a file is, by its beginning               layouts  public layouts, by name mapping
whose column is which field of ours            cells, times   what a cell says foreign    rows of
Gorse, Metarank, Amazon Personalize    rows, notes    one row as its noun takes it, and what was odd
"""
