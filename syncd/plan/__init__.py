# SPDX-License-Identifier: Apache-2.0
"""The decisions, pure: each question has its file. No I/O, no clock."""
