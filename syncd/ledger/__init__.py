# SPDX-License-Identifier: Apache-2.0
"""The ledger: all that syncd remembers, in one SQLite file; all SQL is here."""
