"""The owner's page: what runs, whether it helps, and what comes next, of every project. Served by Flask and Jinja.

``routes`` answers requests, ``figures`` gathers what a page shows from the state, ``guard`` decides who may see it. A
page is a function from figures to text (:func:`backend.web.pages.rendering.page`): it needs no server to be tested, no
torch, no build step, and nothing from another host. It works without scripts; with them, what runs is shown as it runs.
"""
