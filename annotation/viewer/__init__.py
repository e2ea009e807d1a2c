"""Local pages over a journal or shards: what each image shows, and what was written of it.

    journals, shards   one `Entry` at a time, read where it lies
    catalogue          what can be filtered, in a temporary database; built once
    photos, drawing    pictures: photographs at the size of the screen, skeletons, ellipses, heatmaps
    views              entries as pages
    server, export     the pages, served or written to files

Captions, labels, file names and photographs are somebody else's: text is escaped by `pages`, a photograph is
found, measured and made anew by `photos`, and no address that a browser asks for holds a path.
"""
