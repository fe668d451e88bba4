# Texts of the page that shows a patient the journal.

page-title = Journal of accesses to your data
page-title-ward = Journal of accesses to the data of the patient whom you represent
page-patient = Patient
page-made = Made
page-since = From
page-until = Before
page-law = Order of the Health Ministry V2100023370, § 28
page-newest = Newest first. The time is that of Almaty.
page-when = When
page-who = Who, and of which organisation
page-what = What
page-purpose = Purpose
page-ground = Legal ground
page-result = Result
page-allowed = allowed
page-denied = denied
page-emergency = Emergency
page-degraded = Decided while the store was away
page-withheld = This row is not shown for the time being: a clinician withholds it for a time, as the law provides
page-erased = What named people was erased
page-unknown = not stated
page-organisation = organisation
page-person = known there as
page-none = There is nothing in this time.
page-older = Earlier entries
page-languages = Language
