# SPDX-License-Identifier: Apache-2.0
"""Servers to try syncd on; the tests use the same ones."""
