"""The only compiled code: inline atoms (.pxd) and the loops around them (.pyx). Private."""
