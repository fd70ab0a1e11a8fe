"""`redconnect doctor`: what is wrong with this machine and these settings, and how to mend it.

`io` collects facts and changes nothing; the other modules judge them and touch nothing.
"""
