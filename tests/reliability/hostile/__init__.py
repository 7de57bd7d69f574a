"""Recipes, names, files and configurations that want something, each with a twin that differs in nothing but that.

A corpus is composed: kinds of what is wanted, times the places where it can stand. `measured` gives every case to a process
that has made a plan without Keras, and judges how it ends.
"""
