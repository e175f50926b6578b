# SPDX-License-Identifier: Apache-2.0
"""What people open in a browser or subscribe to."""
