"""Paired measurements of retort beside its peers. SPDX-License-Identifier: Apache-2.0"""
