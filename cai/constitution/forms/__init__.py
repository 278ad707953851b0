"""Other people's forms of a constitution, to read and to write.

One module per form, with `read`, `write` and `is_form`; `table` names them. Start from
`cai.constitution.importing` and `cai.constitution.exporting`.
"""
