"""The page that draws and reads in a browser: networks packed for its kernel, its text, the file, and the server."""
