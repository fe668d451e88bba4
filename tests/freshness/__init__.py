"""The protocol of freshness, checked on random histories: does anybody ever send what is out of date?"""
