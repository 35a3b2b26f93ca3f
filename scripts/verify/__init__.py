"""`make verify`: what Tunesmith claims, checked on this machine, one line each.

| file | what |
|---|---|
| `__main__.py` | makes the wheels and an empty environment, and goes on in it |
| `claims.py` | the claims, in order |
| `kills.py` | one job undisturbed and one killed at random instants |
| `plain_peft.py` | answers problems with transformers and PEFT alone |
"""
