# SPDX-License-Identifier: Apache-2.0
"""Why an entry looks as it does."""
