"""Edit photographs, folders and videos end to end: detect faces, edit and rotate them, composite and write the results."""
