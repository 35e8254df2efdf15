"""One HTML file that shows a run: figures, tables, pictures; no network, no script.

This room draws and words what it is handed (:class:`reporting.content.Report`); it reads no run folder,
opens no image file and fits nothing. Every text goes through an autoescaping template.
"""
