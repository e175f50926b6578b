# SPDX-License-Identifier: Apache-2.0
"""Carries the plan's decisions out: pull, mint, render, push, feeds. The clock is an argument."""
