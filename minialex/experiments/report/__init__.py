"""The report of `minialex reproduce`: report.html, report.md, CSV tables and PNG figures."""
