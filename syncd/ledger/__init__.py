# SPDX-License-Identifier: Apache-2.0
"""The ledger: what is known, in one SQLite file; all SQL is here."""
