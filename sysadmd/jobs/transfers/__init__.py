"""File work between sites: a directory tree of this host, one behind SSH, or a pretended one.

::

    names.py      bytes of the file system <-> texts of the wire; what a path may be
    options.py    the options of a request
    elements.py   a request -> its first step; a listing -> the steps that copy, remove or rename it
    pdm.py        the numbers and states of the pdm clients
    faults.py     what may go wrong, as one sentence with the path
    site.py       what every kind of site can do
    beneath.py    the walk that no symbolic link leads out of a root
    tree.py       listing, removing, renaming, making directories below a root; blocking calls
    part.py       a file on its way: read it, write it under a temporary name, publish it; blocking calls
    file_site.py  dummy_site.py  ssh_site.py
    sites.py      the sites of the configuration, by their number, with their connections
    copying.py    one file from any site to any site
    engine.py     one attempt of one step

The first four do no I/O.
"""
