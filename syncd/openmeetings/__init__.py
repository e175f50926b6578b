# SPDX-License-Identifier: Apache-2.0
"""OpenMeetings: where entry hashes come from."""
