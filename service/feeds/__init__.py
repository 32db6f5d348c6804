"""Rows of files and of other systems as rows of ours. Functions of values: nothing is stored here.

`files`: rows out of JSON lines, CSV and Parquet. `foreign`: rows of Gorse, Metarank and Amazon Personalize.
"""
