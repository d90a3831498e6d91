"""Reading exports, without a database: `reading` gives rows, `formats` their meaning, `values` clean cells."""
