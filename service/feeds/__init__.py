"""Turns rows of files and of other systems into rows of our feeds: items, users and events.
Functions of values: nothing is stored here.

    files     reads a file of any format into rows of a feed
    opening   unpacks a file and detects its format and encoding
    layouts   reads public layouts, such as MovieLens
    mapping   says which column is which field of ours
    cells     reads the value of a cell, such as a number or a time
    foreign   reads rows of Gorse, Metarank and Amazon Personalize
    rows      fits a row to its feed's model and collects warnings about it
"""
