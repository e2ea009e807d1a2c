"""The project's one generator of static pages: plain Python, no framework, no outside request.

`markup` builds HTML in which every text is escaped; `document` makes a whole page of it, with its style and
script inside and a policy that forbids the browser to fetch anything from elsewhere. Both know nothing of
what they show, so the annotation viewer and the report of a run share them.
"""
