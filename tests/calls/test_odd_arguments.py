"""Every argument of every call of the table, with every odd value."""

import pytest

from tests.calls.odd import ODD, arguments_of, judge
from tests.calls.table import CALLS


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_argument_works_or_is_named(name):
    call = CALLS[name]
    function, arguments = call()
    function(**arguments)  # the call itself works
    found = [judge(name, call, argument, odd) for argument in arguments_of(call) for odd in ODD]
    assert not [problem for problem in found if problem]
