"""
What a FHIR request means: an HTTP request → an action on data classes of patients, or a refusal.

Pure.  FHIR's own grammar (interactions, search, Bundles) is code, in R4 and R5;
what a security team decides (types, classes, parameters, operations) is data,
``policies/routes.toml``.
"""
