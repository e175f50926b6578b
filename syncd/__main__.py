# SPDX-License-Identifier: Apache-2.0
"""``python -m syncd``."""

from syncd.cli.main import main

main()
