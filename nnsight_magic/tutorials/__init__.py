"""Checks of the tutorials' exercises, a file for each notebook of `notebooks/`.

They are in the package and not beside the notebooks, so that a notebook that was downloaded alone,
opened in Colab or handed out by nbgrader finds them with the package that it needs in any case.
Nothing else imports them.
"""
