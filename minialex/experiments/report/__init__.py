"""The report: sections, Markdown, the HTML page and its figures."""
