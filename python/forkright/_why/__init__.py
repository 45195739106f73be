"""Measures programs that were not written for forkright: who holds the GIL, who waits for it, what would suit them.

`command` runs a program, `inject` records it from the inside, `data` makes one document of the recordings, `text`,
`page` and `trace` show it in the same `words`; `report` is for those who measure a part of their own program.
"""
