#!/bin/sh
# Prints the first Python from 3.11 to 3.13 on the path; fails in words when there is none.
for name in python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done
echo "Python 3.11, 3.12 or 3.13 is needed; on the path is: $(python3 --version 2>&1 || echo none)." >&2
echo "Install one (apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.12" >&2
exit 1
