"""The `report` command: run folders as one HTML file without scripts or requests.

`runs` reads run folders, `scores` reads evaluate's JSON, `comparison` compares configs, `reproduction` lists commands and versions;
`table`, `bound`, `curves`, `pictures` and `code_sheet` prepare the sections; `page` renders assets/report.html.
"""
