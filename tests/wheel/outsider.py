"""Tests of somebody who has the package, and nothing else of this project. They are run outside of the checkout."""

import pytest

from bulkhead.errors import BulkheadError

SECRET = b"to be forgotten" * 16


def test_a_page_comes_back_only_when_its_vm_dies(bulkhead_machine, bulkhead_vm):
    page = bulkhead_vm(0).page(content=SECRET)
    bulkhead_machine.refuses("reclaim", "BAD_STATE", frame=page)
    bulkhead_machine.ok("vm_kill", vm=0)
    bulkhead_machine.ok("reclaim", frame=page)
    assert bulkhead_machine.backend.memory(page, len(SECRET)) == bytes(len(SECRET))


def test_the_host_cannot_look_at_a_page_of_a_vm(bulkhead_machine, bulkhead_vm):
    page = bulkhead_vm(1).page(content=SECRET)
    with pytest.raises(BulkheadError, match="the host may not access"):
        bulkhead_machine.backend.memory(page, len(SECRET))


def test_no_page_serves_two_vms(bulkhead_machine, bulkhead_vm):
    page = bulkhead_vm(0).page()
    bulkhead_vm(2).cover(0x4000_0000)
    bulkhead_machine.refuses("map", "NOT_OWNED", "frame", vm=2, ipa=0x4000_0000, frame=page)


@pytest.mark.raw_memory
def test_the_page_is_where_the_engine_says(bulkhead_machine, bulkhead_vm):
    page = bulkhead_vm(0).page(content=SECRET)
    assert bulkhead_machine.backend.physical(page, len(SECRET)) == SECRET
