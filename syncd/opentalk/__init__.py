# SPDX-License-Identifier: Apache-2.0
"""OpenTalk, the source of meetings: its controller and its identity provider."""
