"""Small things every part uses: files written atomically, cores, progress, signals."""
